"""The privacy card: `promise` and `practice` fill its fields, `card` renders them."""
