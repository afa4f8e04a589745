"""What the workflows do beyond running a command: records, the comment, the drift issue. Left out: the commands themselves."""
