"""A small CNN on arrays through a generator, the learning rate by a schedule, as in many programs for CIFAR-10."""

import os

from settings import fashion_mnist, settings

import fastcnn as keras
from fastcnn.callbacks import LearningRateScheduler, ModelCheckpoint
from fastcnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from fastcnn.models import Sequential
from fastcnn.preprocessing.image import ImageDataGenerator
from fastcnn.regularizers import l2
from fastcnn.utils import np_utils

SOURCE, COUNT = "/usr/share/datasets/fashion-mnist", 60000
WIDTH, BATCH, EPOCHS = 32, 64, 30
CLASSES, WEIGHT_DECAY = 10, 1e-4
FOLDER = "saved_models"
settings(globals())

(x_train, y_train), (x_test, y_test) = fashion_mnist(SOURCE, COUNT)
mean, std = x_train.mean(), x_train.std()
x_train, x_test = (x_train - mean) / (std + 1e-7), (x_test - mean) / (std + 1e-7)
y_train = np_utils.to_categorical(y_train, CLASSES)
y_test = np_utils.to_categorical(y_test, CLASSES)

model = Sequential()
for stage, dropout in enumerate((0.2, 0.3)):
    for i in range(2):
        shape = {"input_shape": x_train.shape[1:]} if stage == i == 0 else {}
        model.add(Conv2D(WIDTH << stage, (3, 3), padding="same", kernel_regularizer=l2(WEIGHT_DECAY), **shape))
        model.add(Activation("relu"))
        model.add(BatchNormalization())
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Dropout(dropout))
model.add(Flatten())
model.add(Dense(CLASSES, activation="softmax"))
model.summary()


def rate(epoch):
    """The learning rate of an epoch."""
    return 1e-3 if epoch < EPOCHS // 2 else 5e-4 if epoch < EPOCHS * 3 // 4 else 3e-4


optimizer = keras.optimizers.rmsprop(lr=0.001, decay=1e-6)
model.compile(loss="categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])

generator = ImageDataGenerator(rotation_range=10, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True)
generator.fit(x_train)
os.makedirs(FOLDER, exist_ok=True)
path = os.path.join(FOLDER, "cnn.{epoch:03d}.h5")
history = model.fit_generator(
    generator.flow(x_train, y_train, batch_size=BATCH),
    steps_per_epoch=x_train.shape[0] // BATCH,
    epochs=EPOCHS,
    verbose=2,
    validation_data=(x_test, y_test),
    callbacks=[
        LearningRateScheduler(rate, verbose=1),
        ModelCheckpoint(filepath=path, monitor="val_acc", verbose=1, save_best_only=True),
    ],
)
scores = model.evaluate(x_test, y_test, verbose=0)
print("rates:", *(f"{value:g}" for value in history.history["lr"]))
print(f"Test loss: {scores[0]:.4f}")
print(f"Test accuracy: {scores[1]:.4f}")
