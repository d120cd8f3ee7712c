"""Nouns and rules: everything that stays true with the power off."""
