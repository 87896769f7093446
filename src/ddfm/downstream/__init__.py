"""Does fusion help a machine see? Detection, segmentation and classification on fused pictures.

`detection`, `segmentation` and `classification` run the protocols; `layouts` reads the public data sets;
`night_drive` draws a labelled set of its own; `report` writes what came out.
"""
