"""Recipes: chosen stacks under the names and arguments that TFF users know.

Each says what it changes against the function of the same name in `tff.learning`
(0.87), and why. All of them zero by L2 norms where TFF goes by the largest
coordinate: the norm is then one number for zeroing and clipping.
"""
