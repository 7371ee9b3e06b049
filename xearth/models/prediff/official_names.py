"""Names of parameters in the reference implementation, and ours, as data.

A table is read by :func:`xearth.models.checkpoints.our_name`: pairs of (official part, our part),
with a dot before each name.

Source: the key tables of the checkpoints published with Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from ..checkpoints import RENAMED, Renamed

__all__ = ["ALIGNMENT_NAMES", "AUTOENCODER_NAMES", "DENOISER_NAMES", "DIFFUSERS_NAMES"]

_TIME_NAMES: Renamed = (
    (".in_layers.0.", ".norm_1."),
    (".in_layers.2.", ".conv_1."),
    (".emb_layers.1.", ".time."),
    (".out_layers.0.", ".norm_2."),
    (".out_layers.3.", ".conv_2."),
    (".skip_connection.", ".skip."),
)
_DOWN_NAMES: Renamed = (
    *RENAMED,
    *_TIME_NAMES,
    (".first_proj.", ".down.first."),
    (".pos_embed.", ".down.positions."),
    (".time_embed.layer.0.", ".down.embed.first."),
    (".time_embed.layer.2.", ".down.embed.second."),
    (".init_global_vectors", ".down.vectors"),
    (".downsample_layers.", ".down.merge."),
    (".down_layer_global_proj.", ".down.merge_global."),
    (".down_self_blocks.", ".down.blocks."),
    (".down_time_embed_blocks.", ".down.time_blocks."),
)
DENOISER_NAMES: Renamed = (
    *_DOWN_NAMES,
    (".upsample_layers.", ".up.enlarge."),
    (".up_layer_global_proj.", ".up.enlarge_global."),
    (".up_self_blocks.", ".up.blocks."),
    (".up_time_embed_blocks.", ".up.time_blocks."),
    (".final_proj.", ".out."),
)
ALIGNMENT_NAMES: Renamed = (
    *_DOWN_NAMES,
    (".out.0.", ".pool_norm."),
    (".out.2.positional_embedding", ".pool.positions"),
    (".out.2.qkv_proj.", ".pool.qkv."),
    (".out.2.c_proj.", ".pool.out."),
)
_FRAME_NAMES: Renamed = (
    (".encoder.down_blocks.", ".encoder.levels."),
    (".decoder.up_blocks.", ".decoder.levels."),
    (".mid_block.resnets.0.", ".middle.before."),
    (".mid_block.resnets.1.", ".middle.after."),
    (".mid_block.attentions.0.", ".middle.attention."),
    (".resnets.", ".blocks."),
    (".downsamplers.0.conv.", ".shrink."),
    (".upsamplers.0.conv.", ".enlarge."),
    (".norm1.", ".norm_1."),
    (".norm2.", ".norm_2."),
    (".conv1.", ".conv_1."),
    (".conv2.", ".conv_2."),
    (".conv_shortcut.", ".skip."),
    (".conv_norm_out.", ".norm_out."),
    (".group_norm.", ".norm."),
    (".quant_conv.", ".to_moments."),
    (".post_quant_conv.", ".from_latent."),
)
AUTOENCODER_NAMES: Renamed = (
    *_FRAME_NAMES,
    (".query.", ".q."),
    (".key.", ".k."),
    (".value.", ".v."),
    (".proj_attn.", ".out."),
)
# The same network as later releases of the library it was copied from call it.
DIFFUSERS_NAMES: Renamed = (
    *_FRAME_NAMES,
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".out."),
)
