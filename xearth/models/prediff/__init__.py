"""PreDiff: latent diffusion in four parts that know nothing of each other."""
