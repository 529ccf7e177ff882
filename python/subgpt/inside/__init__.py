"""Looking inside a model.

`lens` shows what its layers would predict, `attention` where it looks, `step` one step of gradient descent with its
numbers, which `worked_example` writes down; `tiny` makes a model to look into.
"""
