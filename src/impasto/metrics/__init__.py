"""Measures of a stylization: what it kept of the content, what it took of the style, what it should not have taken.

    structural      SSIM, MS-SSIM, diversity over seeds               numpy only
    distribution    Fréchet and kernel distance of feature vectors    numpy only
    seams           how visible the edges of tiles are                numpy only
    temporal        warping, occlusion and warp error of films        numpy only
    features        Gram, moment, content, perceptual and structure distances over a named feature network
    leak            places of the style picture that reappear in the result
    lpips           LPIPS with the official backbones and heads, given as files
    clip            cosine similarity of CLIP embeddings, with weights given as a folder

The first four need nothing beyond the core install; the others need ``impasto[torch]``, and ``clip``
``impasto[metrics]``. A distance over features carries the name of its network wherever it is shown: ``gram-vgg19`` and
``gram-squeezenet1_0`` are two measures, and only what was computed as LPIPS, CFSD or FID were published has their name.
"""
