"""Teacher and student: where they lie, loading them, building them."""
