"""What a stack may choose: the declarations, their reader and the checks. Left out: how the settings are used."""
