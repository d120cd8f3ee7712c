"""The door to files and processes: what workers make becomes real here, and only here."""
