"""Transfer learning: a VGG16 without its top, frozen, under a new head; then its last block is trained too.

fastcnn downloads nothing: WEIGHTS is a file of weights for VGG16 without its top, such as the one that Keras downloads
(vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5), or "" to begin with random ones.
"""

from settings import settings

from fastcnn.applications.vgg16 import VGG16, preprocess_input
from fastcnn.callbacks import EarlyStopping
from fastcnn.layers import Dense, Dropout, GlobalAveragePooling2D
from fastcnn.models import Model, load_model
from fastcnn.optimizers import SGD, RMSprop
from fastcnn.preprocessing.image import ImageDataGenerator

TRAIN, TEST, WEIGHTS = "data", "test", ""
SIZE, BATCH, UNITS = 64, 32, 256
EPOCHS = 5
settings(globals())

base = VGG16(include_top=False, weights=WEIGHTS or None, input_shape=(SIZE, SIZE, 3))
x = GlobalAveragePooling2D()(base.output)
x = Dense(UNITS, activation="relu")(x)
x = Dropout(0.5)(x)

flow = {"target_size": (SIZE, SIZE), "batch_size": BATCH, "class_mode": "categorical"}
augmented = ImageDataGenerator(
    preprocessing_function=preprocess_input, rotation_range=20, zoom_range=0.1, horizontal_flip=True
)
train = augmented.flow_from_directory(TRAIN, **flow)
test = ImageDataGenerator(preprocessing_function=preprocess_input).flow_from_directory(TEST, shuffle=False, **flow)

model = Model(inputs=base.input, outputs=Dense(train.num_classes, activation="softmax", name="answers")(x))
for layer in base.layers:
    layer.trainable = False
model.compile(optimizer=RMSprop(lr=1e-3), loss="categorical_crossentropy", metrics=["acc"])
print(f"training {len(model.trainable_weights)} of {len(model.weights)} weights")
model.fit_generator(train, epochs=EPOCHS, validation_data=test, callbacks=[EarlyStopping("val_loss", patience=2)])

for layer in base.layers:
    layer.trainable = layer.name.startswith("block5")
model.compile(optimizer=SGD(lr=1e-4, momentum=0.9), loss="categorical_crossentropy", metrics=["acc"])
print(f"training {len(model.trainable_weights)} of {len(model.weights)} weights")
model.fit_generator(train, epochs=EPOCHS, validation_data=test)

model.save("transfer.h5")
again = load_model("transfer.h5")
loss, accuracy = again.evaluate_generator(test, steps=len(test))
features = Model(inputs=again.input, outputs=again.get_layer("block5_pool").output)
print(f"test: loss {loss:.4f}, accuracy {accuracy:.4f}; features {features.predict_generator(test, steps=1).shape}")
