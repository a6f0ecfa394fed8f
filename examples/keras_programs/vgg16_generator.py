"""VGG16 from its layers, two kinds of pictures in folders: train, keep the best epoch, stop early, look, ask.

python examples/fashion_mnist.py --out pictures --labels 1 8 --per-class 600
cd pictures && python ../examples/keras_programs/vgg16_generator.py
"""

import matplotlib
from settings import settings

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import fastcnn as keras
from fastcnn.callbacks import EarlyStopping, ModelCheckpoint
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D
from fastcnn.models import Sequential, load_model
from fastcnn.optimizers import Adam
from fastcnn.preprocessing import image
from fastcnn.preprocessing.image import ImageDataGenerator

TRAIN, TEST, PICTURE = "data", "test", ""
SIZE, BATCH, UNITS = 64, 32, 4096
EPOCHS, STEPS, PATIENCE = 20, 30, 5
settings(globals())

train = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True).flow_from_directory(
    TRAIN, target_size=(SIZE, SIZE), batch_size=BATCH
)
test = ImageDataGenerator(rescale=1 / 255).flow_from_directory(TEST, target_size=(SIZE, SIZE), batch_size=BATCH)
names = sorted(train.class_indices, key=train.class_indices.get)

model = Sequential()
first = {"input_shape": (SIZE, SIZE, 3)}
for filters, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
    for _ in range(convolutions):
        model.add(Conv2D(filters, (3, 3), padding="same", activation="relu", kernel_initializer="he_uniform", **first))
        first = {}
    model.add(MaxPool2D(pool_size=(2, 2), strides=(2, 2)))
model.add(Flatten())
model.add(Dense(UNITS, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(UNITS, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(len(names), activation="softmax"))
model.compile(optimizer=Adam(lr=1e-4), loss=keras.losses.categorical_crossentropy, metrics=["accuracy"])
model.summary()

best = ModelCheckpoint("vgg16_best.h5", monitor="val_acc", verbose=1, save_best_only=True, mode="auto", period=1)
early = EarlyStopping(monitor="val_acc", min_delta=0, patience=PATIENCE, verbose=1, mode="auto")
history = model.fit_generator(
    train,
    steps_per_epoch=STEPS,
    epochs=EPOCHS,
    validation_data=test,
    validation_steps=len(test),
    callbacks=[best, early],
)

for key, title in (("acc", "training"), ("val_acc", "validation")):
    plt.plot(history.history[key], label=title)
plt.title("accuracy")
plt.xlabel("epoch")
plt.legend()
plt.savefig("vgg16_curves.png", dpi=70)

path = PICTURE or test.filepaths[0]
picture = image.img_to_array(image.load_img(path, target_size=(SIZE, SIZE))) / 255
answer = load_model("vgg16_best.h5").predict(np.expand_dims(picture, axis=0))[0]
print(f"{path}: {names[answer.argmax()]} ({answer.max():.2f})")

plt.figure(figsize=(3, 3))
plt.imshow(picture)
plt.axis("off")
plt.title(names[answer.argmax()])
plt.savefig("vgg16_answer.png", dpi=70)
