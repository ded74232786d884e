"""Train a StyleGAN2."""
