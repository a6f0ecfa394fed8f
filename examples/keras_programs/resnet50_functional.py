"""ResNet50 of 2015 with the functional API, block by block, on folders of pictures.

python examples/fashion_mnist.py --out pictures --labels 0 1 2 3 4 5 --per-class 600
cd pictures && python ../examples/keras_programs/resnet50_functional.py
"""

import matplotlib
from settings import settings

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fastcnn.callbacks import ModelCheckpoint, ReduceLROnPlateau
from fastcnn.initializers import glorot_uniform
from fastcnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    Input,
    MaxPooling2D,
    ZeroPadding2D,
    add,
)
from fastcnn.models import Model, load_model
from fastcnn.preprocessing.image import ImageDataGenerator

TRAIN, TEST = "data", "test"
SIZE, BATCH, MOMENTUM = 64, 32, 0.9
EPOCHS, STEPS = 5, 100
settings(globals())


def conv_bn(x, filters, size, strides, name, padding="valid"):
    """Convolution and normalisation under the names of the authors' graph."""
    x = Conv2D(
        filters, size, strides=strides, padding=padding, name=f"res{name}", kernel_initializer=glorot_uniform(seed=0)
    )(x)
    return BatchNormalization(axis=3, momentum=MOMENTUM, name=f"bn{name}")(x)


def block(x, filters, stage, letter, strides=None):
    """1x1, 3x3 and 1x1 convolutions beside the input, which is projected where `strides` are given."""
    name = f"{stage}{letter}_branch"
    shortcut = x if strides is None else conv_bn(x, 4 * filters, 1, strides, f"{name}1")
    y = Activation("relu")(conv_bn(x, filters, 1, strides or 1, f"{name}2a"))
    y = Activation("relu")(conv_bn(y, filters, 3, 1, f"{name}2b", "same"))
    y = conv_bn(y, 4 * filters, 1, 1, f"{name}2c")
    return Activation("relu")(add([y, shortcut]))


def resnet50(input_shape, classes):
    """The model; pictures of at least 64 x 64 pixels."""
    inputs = Input(shape=input_shape)
    x = ZeroPadding2D((3, 3))(inputs)
    x = Conv2D(64, (7, 7), strides=(2, 2), name="conv1", kernel_initializer=glorot_uniform(seed=0))(x)
    x = BatchNormalization(axis=3, momentum=MOMENTUM, name="bn_conv1")(x)
    x = Activation("relu")(x)
    x = MaxPooling2D((3, 3), strides=(2, 2))(x)
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        x = block(x, filters, stage, "a", strides=1 if stage == 2 else 2)
        for letter in "bcdef"[: blocks - 1]:
            x = block(x, filters, stage, letter)
    x = AveragePooling2D((2, 2), name="avg_pool")(x)
    x = Flatten()(x)
    x = Dense(classes, activation="softmax", name=f"fc{classes}", kernel_initializer=glorot_uniform(seed=0))(x)
    return Model(inputs=inputs, outputs=x, name="ResNet50")


train = ImageDataGenerator(rescale=1 / 255, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True)
train = train.flow_from_directory(TRAIN, target_size=(SIZE, SIZE), batch_size=BATCH, class_mode="categorical")
test = ImageDataGenerator(rescale=1 / 255)
test = test.flow_from_directory(TEST, target_size=(SIZE, SIZE), batch_size=BATCH, shuffle=False)

model = resnet50((SIZE, SIZE, 3), train.num_classes)
model.summary()
model.compile("adam", loss="categorical_crossentropy", metrics=["acc"])
history = model.fit_generator(
    train,
    steps_per_epoch=STEPS,
    epochs=EPOCHS,
    validation_data=test,
    callbacks=[
        ModelCheckpoint("resnet50_best.h5", monitor="val_acc", save_best_only=True, verbose=1),
        ReduceLROnPlateau(monitor="val_loss", factor=0.2, patience=2, verbose=1),
    ],
    workers=4,
    use_multiprocessing=False,
)

for key, title in (("acc", "training"), ("val_acc", "validation")):
    plt.plot(history.history[key], label=title)
plt.title("accuracy")
plt.xlabel("epoch")
plt.legend()
plt.savefig("resnet50_curves.png", dpi=70)

loss, accuracy = load_model("resnet50_best.h5").evaluate_generator(test)
print(f"test: loss {loss:.4f}, accuracy {accuracy:.4f}")
