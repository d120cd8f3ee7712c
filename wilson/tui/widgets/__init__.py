"""Parts of a screen: each says what happened to it, and shows what it is told."""
