"""Jobs under a seeded simulator: crashes everywhere, and output that must not show them."""
