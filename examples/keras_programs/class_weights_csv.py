"""Arrays with classes of unequal size: class weights, a table of the epochs, the rate reduced on plateaus."""

import numpy as np
from settings import fashion_mnist, settings

from fastcnn import backend as K  # noqa: N812
from fastcnn.callbacks import CSVLogger, ReduceLROnPlateau
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from fastcnn.models import Sequential, model_from_json
from fastcnn.optimizers import Adam

SOURCE, COUNT = "/usr/share/datasets/fashion-mnist", 20000
WIDTH, BATCH, EPOCHS, RARE = 16, 128, 12, 5
settings(globals())
K.set_image_data_format("channels_last")

(x_train, y_train), (x_test, y_test) = fashion_mnist(SOURCE, COUNT)
kept = (y_train != RARE) | (np.arange(len(y_train)) % 10 == 0)  # a tenth of one class
x_train, y_train = x_train[kept] / 255, y_train[kept]
x_test = x_test / 255
counts = np.bincount(y_train, minlength=10)
weights = {label: counts.max() / max(1, count) for label, count in enumerate(counts)}

model = Sequential(
    [
        Conv2D(WIDTH, (3, 3), activation="relu", input_shape=(28, 28, 1)),
        Conv2D(2 * WIDTH, (3, 3), activation="relu"),
        MaxPooling2D(pool_size=(2, 2)),
        Dropout(0.25),
        Flatten(),
        Dense(4 * WIDTH, activation="relu"),
        Dropout(0.5),
        Dense(10, activation="softmax"),
    ]
)
model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(lr=1e-3, epsilon=None), metrics=["accuracy"])
model.fit(
    x_train,
    y_train,
    batch_size=BATCH,
    nb_epoch=EPOCHS,
    verbose=2,
    validation_split=0.1,
    class_weight=weights,
    callbacks=[
        CSVLogger("training.csv"),
        ReduceLROnPlateau(monitor="val_acc", factor=0.5, patience=2, epsilon=1e-4, min_lr=1e-5),
    ],
)

with open("model.json", "w") as file:
    file.write(model.to_json())
model.save_weights("weights.h5")
with open("model.json") as file:
    again = model_from_json(file.read())
again.load_weights("weights.h5")
found = again.predict_classes(x_test)
rare = y_test == RARE
print(f"accuracy {np.mean(found == y_test):.4f}; of class {RARE} {np.mean(found[rare] == RARE):.4f}")
print(f"learning rate at the end: {K.get_value(model.optimizer.lr):g}")
