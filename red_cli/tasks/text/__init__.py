"""Tasks that generate text: encoding, loss, packing, and likelihoods of options."""
