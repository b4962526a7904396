"""Reports of finished runs: what one run changed in its base, and many runs compared with the paper's figures."""
