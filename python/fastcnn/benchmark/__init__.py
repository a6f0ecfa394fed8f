"""How fast this machine and fastcnn on it are: the roofs, whole networks, and single layers against NumPy.

`fastcnn bench` is the short form; `bench/` in the source tree has the long one.
"""
