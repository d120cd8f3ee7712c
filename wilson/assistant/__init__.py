"""The front door: what may be asked of Wilson goes in here, and what happens comes out."""
