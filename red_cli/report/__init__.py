"""Tables and pictures of finished runs: what one run learnt, and many runs beside the paper's figures."""
