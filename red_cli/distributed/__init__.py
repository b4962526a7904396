"""Several processes: how they start, how they communicate, and the engines that spread a model over them."""
