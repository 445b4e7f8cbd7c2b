"""The KL autoencoders of latent diffusion, named by how much they shrink a picture's side."""

from mmjax.systems.autoencoder import Autoencoder

# Latent diffusion's model zoo: f8 is also Stable Diffusion's and DiT's, which measured its scale; that of the
# others belongs to the data, and is 1 here.
SIZES = {
    "f4": Autoencoder(image_size=256, latent=3, multipliers=(1, 2, 4), scale=1.0, dtype="bfloat16"),
    "f8": Autoencoder(image_size=256, latent=4, multipliers=(1, 2, 4, 4), dtype="bfloat16"),
}
