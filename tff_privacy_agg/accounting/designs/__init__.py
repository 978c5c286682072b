"""Integer designs: scale, norm bounds and shares of noise, fixed when a stack is built."""
