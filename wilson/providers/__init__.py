"""The door to model servers: one protocol inside, several outside."""
