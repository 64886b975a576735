"""Prompts in the API's form, built node by node."""


class Graph(dict):
    def add(self, name: str, class_type: str, /, **inputs) -> "Node":
        self[name] = {"class_type": class_type, "inputs": inputs}
        return Node(name)

    def picture(self, name: str, file: str) -> list:
        return self.add(name, "LoadImage", image=file).out(0)

    def identity(self, name: str, images, /, **inputs) -> list:
        return self.add(name, "LikenessBuildIdentity", **({"images": images, "name": name, "combine": "mean"} | inputs)).out(0)

    def gate(self, image, identity, name: str = "gate", /, **inputs) -> "Node":
        return self.add(name, "LikenessIdentityGate", **({"image": image, "identity": identity, **GATE, "face": "best match"} | inputs))

    def show(self, name: str, images) -> None:
        self.add(name, "PreviewImage", images=images)

    def tell(self, name: str, source) -> None:
        self.add(name, "PreviewAny", source=source)


GATE = {"strictness": "standard", "threshold": 0.5, "no_face": "reject", "uncertain": "own output", "keep_best": 0, "max_score": 1.0}
# The outputs of Identity Gate and Cast Gate, in order.
PASSED, REJECTED, UNCERTAIN, OVERLAY, PLOT, SCORES, COUNT, ALL_PASSED, REPORT, PASSED_CAPTIONS, REJECTED_CAPTIONS = range(11)


class Node:
    def __init__(self, name: str):
        self.name = name

    def out(self, index: int) -> list:
        return [self.name, index]
