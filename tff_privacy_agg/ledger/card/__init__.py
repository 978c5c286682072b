"""The privacy card: `promise`, `practice` and `verifiability` fill its fields, `render` prints them."""
