"""The window: shows what happens, and passes on what the user wants."""
