"""What a picture is: samples with a range, luminance and chroma, pyramids, tiles. Knows no file."""
