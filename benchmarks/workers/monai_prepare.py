"""MONAI's transforms up to where a study is ready; answers requests in JSON lines."""

import importlib.metadata
import json
import os
import sys
import time

import monai.transforms as mt

KEYS = ["image", "label"]


def transforms():
    """Return what MONAI's own tutorial on BraTS does, short of random augmentation."""
    return mt.Compose(
        [
            mt.LoadImaged(KEYS),
            mt.EnsureChannelFirstd(KEYS),
            mt.Orientationd(KEYS, axcodes="RAS"),
            mt.CropForegroundd(KEYS, source_key="image"),
            mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            mt.ConvertToMultiChannelBasedOnBratsClassesd("label"),
        ]
    )


def prepare(prepared_by, images, label):
    """Return seconds, and the shapes of image and masks."""
    start = time.perf_counter()
    found = prepared_by({"image": images, "label": label})
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **{key: list(found[key].shape) for key in KEYS}}


def main():
    """Answer one request a line until there are no more."""
    # What a library prints must not stand between the answers.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    prepared_by = transforms()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request.pop("do") == "versions":
                names = ("monai", "torch", "nibabel", "numpy")
                answer = {name: importlib.metadata.version(name) for name in names}
            else:
                answer = prepare(prepared_by, **request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
