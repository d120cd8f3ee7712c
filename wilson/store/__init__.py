"""The door to SQLite: what must survive the end of the program."""
