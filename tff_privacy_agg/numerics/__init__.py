"""Pure TensorFlow functions and exact integer tables, with no TFF import."""
