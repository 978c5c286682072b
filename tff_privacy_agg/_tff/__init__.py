"""What depends on the shape of TFF: names that it moved, hints at its errors, its workers."""
