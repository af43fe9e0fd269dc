"""Boot loaders: what starts next, and a default that is held and promoted."""
