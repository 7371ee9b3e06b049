"""The networks that Earthformer is compared with: one file, one configuration, one module each.

Every one maps a history (N, T, H, W, C) to a forecast (N, T_out, H, W, C_out) and needs no
truth to do so; :mod:`xearth.training.strategies` holds what training does beyond that.
"""
