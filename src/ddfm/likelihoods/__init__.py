"""What the sources demand of the fused image: one EM iteration at every sampling step, in three forms."""
