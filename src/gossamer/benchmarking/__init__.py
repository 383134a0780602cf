"""How fast a network is, dense and sparse, on this machine: columns and rivals."""
