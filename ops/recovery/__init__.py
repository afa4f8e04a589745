"""Recovers a stack after an update was killed: `python -m ops recovery --stack NAME`.

A killed engine leaves a lock, operations of which its state knows that they began and not how they ended, and plugins that
go on without it. What Google has begun goes on, too. Afterwards nothing of that is left, and a plain `pulumi up` (or
`pulumi destroy`) goes on where the other was.
"""
