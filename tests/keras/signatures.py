"""Compare Keras 3.15's names, arguments and defaults with fastcnn's: how many there are, how many differ, and why.

    python tests/keras/signatures.py

prints a line for each difference and the counts; the exit status is 1 if one is not explained here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

_TAIL = (
    "weight_decay=None, clipnorm=None, clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, "
    "ema_overwrite_frequency=None, loss_scale_factor=None, gradient_accumulation_steps=None, name=None"
)
_CONSTRAINTS = (
    "kernel_regularizer=None, bias_regularizer=None, activity_regularizer=None, kernel_constraint=None, "
    "bias_constraint=None"
)
_DATA = "x=None, y=None, batch_size=None"
_APPLICATION = (
    "include_top=True, weights='imagenet', input_tensor=None, input_shape=None, pooling=None, classes=1000, "
    "classifier_activation='softmax', name=None"
)
_CROSS = "from_logits=False, label_smoothing=0.0, axis=-1, reduction='sum_over_batch_size'"

# where a name is: its arguments in order, those without a default bare
KERAS = {
    "models.Model.compile": "optimizer='rmsprop', loss=None, loss_weights=None, metrics=None, weighted_metrics=None, "
    "run_eagerly=False, steps_per_execution=1, jit_compile='auto', auto_scale_loss=True",
    "models.Model.fit": f"{_DATA}, epochs=1, verbose='auto', callbacks=None, validation_split=0.0, "
    "validation_data=None, shuffle=True, class_weight=None, sample_weight=None, initial_epoch=0, "
    "steps_per_epoch=None, validation_steps=None, validation_batch_size=None, validation_freq=1",
    "models.Model.evaluate": f"{_DATA}, verbose='auto', sample_weight=None, steps=None, callbacks=None, "
    "return_dict=False",
    "models.Model.predict": "x, batch_size=None, verbose='auto', steps=None, callbacks=None",
    "models.Model.train_on_batch": "x, y=None, sample_weight=None, class_weight=None, return_dict=False",
    "models.Model.predict_on_batch": "x",
    "models.Model.test_on_batch": "x, y=None, sample_weight=None, return_dict=False",
    "models.Model.summary": "line_length=None, positions=None, print_fn=None, expand_nested=False, "
    "show_trainable=False, layer_range=None",
    "models.Model.save": "filepath, overwrite=True, zipped=None",
    "models.Model.load_weights": "filepath, skip_mismatch=False",
    "models.Model.save_weights": "filepath, overwrite=True, max_shard_size=None",
    "saving.load_model": "filepath, custom_objects=None, compile=True, safe_mode=True",
    "layers.Conv2D": "filters, kernel_size, strides=(1, 1), padding='valid', data_format=None, dilation_rate=(1, 1), "
    "groups=1, activation=None, use_bias=True, kernel_initializer='glorot_uniform', bias_initializer='zeros', "
    + _CONSTRAINTS,
    "layers.Dense": "units, activation=None, use_bias=True, kernel_initializer='glorot_uniform', "
    f"bias_initializer='zeros', {_CONSTRAINTS}",
    "layers.BatchNormalization": "axis=-1, momentum=0.99, epsilon=0.001, center=True, scale=True, "
    "beta_initializer='zeros', gamma_initializer='ones', moving_mean_initializer='zeros', "
    "moving_variance_initializer='ones', beta_regularizer=None, gamma_regularizer=None, beta_constraint=None, "
    "gamma_constraint=None, synchronized=False",
    "layers.MaxPooling2D": "pool_size=(2, 2), strides=None, padding='valid', data_format=None, name=None",
    "layers.AveragePooling2D": "pool_size, strides=None, padding='valid', data_format=None, name=None",
    "layers.GlobalAveragePooling2D": "data_format=None, keepdims=False",
    "layers.GlobalMaxPooling2D": "data_format=None, keepdims=False",
    "layers.ZeroPadding2D": "padding=(1, 1), data_format=None",
    "layers.Flatten": "data_format=None",
    "layers.Activation": "activation",
    "layers.ReLU": "max_value=None, negative_slope=0.0, threshold=0.0",
    "layers.Softmax": "axis=-1",
    "layers.Dropout": "rate, noise_shape=None, seed=None",
    "layers.Add": "",
    "layers.Concatenate": "axis=-1",
    "optimizers.Adam": f"learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, amsgrad=False, {_TAIL}",
    "optimizers.AdamW": "learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, amsgrad=False, "
    + _TAIL.replace("weight_decay=None", "weight_decay=0.004"),
    "optimizers.SGD": f"learning_rate=0.01, momentum=0.0, nesterov=False, {_TAIL}",
    "optimizers.RMSprop": f"learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-07, centered=False, {_TAIL}",
    "optimizers.schedules.ExponentialDecay": "initial_learning_rate, decay_steps, decay_rate, staircase=False",
    "optimizers.schedules.InverseTimeDecay": "initial_learning_rate, decay_steps, decay_rate, staircase=False",
    "optimizers.schedules.PiecewiseConstantDecay": "boundaries, values",
    "optimizers.schedules.PolynomialDecay": "initial_learning_rate, decay_steps, end_learning_rate=0.0001, power=1.0, "
    "cycle=False",
    "optimizers.schedules.CosineDecay": "initial_learning_rate, decay_steps, alpha=0.0, name='CosineDecay', "
    "warmup_target=None, warmup_steps=0",
    "callbacks.EarlyStopping": "monitor='val_loss', min_delta=0, patience=0, verbose=0, mode='auto', baseline=None, "
    "restore_best_weights=False, start_from_epoch=0",
    "callbacks.ModelCheckpoint": "filepath, monitor='val_loss', verbose=0, save_best_only=False, "
    "save_weights_only=False, mode='auto', save_freq='epoch', initial_value_threshold=None",
    "callbacks.ReduceLROnPlateau": "monitor='val_loss', factor=0.1, patience=10, verbose=0, mode='auto', "
    "min_delta=0.0001, cooldown=0, min_lr=0.0",
    "callbacks.CSVLogger": "filename, separator=',', append=False",
    "callbacks.LearningRateScheduler": "schedule, verbose=0",
    "callbacks.TerminateOnNaN": "raise_error=False",
    "callbacks.BackupAndRestore": "backup_dir, save_freq='epoch', double_checkpoint=False, delete_checkpoint=True",
    "callbacks.LambdaCallback": "on_epoch_begin=None, on_epoch_end=None, on_train_begin=None, on_train_end=None, "
    "on_train_batch_begin=None, on_train_batch_end=None",
    **{
        f"callbacks.Callback.on_{when}_{edge}": "logs=None"
        for when in ("train", "test", "predict")
        for edge in ("begin", "end")
    },
    **{f"callbacks.Callback.on_epoch_{edge}": "epoch, logs=None" for edge in ("begin", "end")},
    **{
        f"callbacks.Callback.on_{when}_batch_{edge}": "batch, logs=None"
        for when in ("train", "test", "predict")
        for edge in ("begin", "end")
    },
    "callbacks.Callback.set_params": "params",
    "callbacks.Callback.set_model": "model",
    "losses.CategoricalCrossentropy": _CROSS,
    "losses.BinaryCrossentropy": _CROSS,
    "losses.SparseCategoricalCrossentropy": "from_logits=False, ignore_class=None, reduction='sum_over_batch_size', "
    "axis=-1",
    "losses.MeanSquaredError": "reduction='sum_over_batch_size'",
    "utils.load_img": "path, color_mode='rgb', target_size=None, interpolation='nearest', keep_aspect_ratio=False",
    "utils.img_to_array": "img, data_format=None, dtype=None",
    "utils.array_to_img": "x, data_format=None, scale=True, dtype=None",
    "utils.save_img": "path, x, data_format=None, file_format=None, scale=True",
    "utils.to_categorical": "x, num_classes=None",
    "utils.set_random_seed": "seed",
    "utils.image_dataset_from_directory": "directory, labels='inferred', label_mode='int', class_names=None, "
    "color_mode='rgb', batch_size=32, image_size=(256, 256), shuffle=True, seed=None, validation_split=None, "
    "subset=None, interpolation='bilinear', follow_links=False, crop_to_aspect_ratio=False, "
    "pad_to_aspect_ratio=False, data_format=None, format='tf', verbose=True",
    "preprocessing.image.ImageDataGenerator": "featurewise_center=False, samplewise_center=False, "
    "featurewise_std_normalization=False, samplewise_std_normalization=False, zca_whitening=False, zca_epsilon=1e-06, "
    "rotation_range=0, width_shift_range=0.0, height_shift_range=0.0, brightness_range=None, shear_range=0.0, "
    "zoom_range=0.0, channel_shift_range=0.0, fill_mode='nearest', cval=0.0, horizontal_flip=False, "
    "vertical_flip=False, rescale=None, preprocessing_function=None, data_format=None, validation_split=0.0, "
    "interpolation_order=1, dtype=None",
    "preprocessing.image.ImageDataGenerator.flow": "x, y=None, batch_size=32, shuffle=True, sample_weight=None, "
    "seed=None, save_to_dir=None, save_prefix='', save_format='png', ignore_class_split=False, subset=None",
    "preprocessing.image.ImageDataGenerator.flow_from_directory": "directory, target_size=(256, 256), "
    "color_mode='rgb', classes=None, class_mode='categorical', batch_size=32, shuffle=True, seed=None, "
    "save_to_dir=None, save_prefix='', save_format='png', follow_links=False, subset=None, interpolation='nearest', "
    "keep_aspect_ratio=False",
    **{f"applications.{name}": _APPLICATION for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")},
}

# attributes that objects have, not functions: the class, and how one is made
ATTRIBUTES = {
    "callbacks.History": ("history", "epoch", "params"),
    "preprocessing.image.DirectoryIterator": ("class_indices", "classes", "filenames", "samples", "num_classes"),
    "callbacks.Callback": ("model", "params"),
    "models.Model": ("layers", "trainable_weights", "stop_training", "optimizer", "metrics_names"),
}

NO_VALUE = "(required)"

# (name, argument): why it differs
EXPLAINED = {
    ("models.Model.load_weights", "by_name"): "an argument, not one of **kwargs, in the place it had in Keras 2",
    ("layers.AveragePooling2D", "pool_size"): "Keras 2's default, which old programs rely on",
    ("layers.Conv2D", "algorithm"): "fastcnn's own, behind Keras'",
    ("callbacks.ModelCheckpoint", "period"): "of Keras 2, behind Keras 3's",
    ("models.Model.compile", "recompute"): "fastcnn's own, behind Keras'",
    ("models.Model.fit", "memory_limit"): "fastcnn's own, behind Keras'",
    **{("models.Model.summary", argument): "fastcnn's own, behind Keras'" for argument in ("memory", "batch_size")},
    **{
        ("utils.image_dataset_from_directory", argument): "fastcnn's own, behind Keras'"
        for argument in ("background", "exif_transpose", "formats", "num_threads", "on_error")
    },
    **{
        (f"applications.{name}", "variant"): "fastcnn's own: the graph of Keras or of torchvision"
        for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")
    },
    **{(f"applications.{name}", "batch_norm"): "fastcnn's own: VGG16-BN, VGG19-BN" for name in ("VGG16", "VGG19")},
}


@dataclass(frozen=True)
class Difference:
    """One argument that is not as in Keras; `why` is empty if nobody has explained it."""

    name: str
    argument: str
    keras: object
    fastcnn: object
    why: str

    def __str__(self) -> str:
        where = f"{self.name}({self.argument}=)"
        return f"{where}: Keras {self.keras!r}, fastcnn {self.fastcnn!r}: {self.why or 'UNEXPLAINED'}"


def expected(text: str) -> dict[str, object]:
    """Return the arguments of a line of the table with their defaults."""
    function = ast.parse(f"def f({text}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    return dict(zip(names, [NO_VALUE] * (len(names) - len(defaults)) + defaults, strict=True))


def resolve(name: str) -> Any:
    """Return what a dotted name below `fastcnn` means."""
    parts = name.split(".")
    module: Any = importlib.import_module("fastcnn")
    for i, part in enumerate(parts):
        found = getattr(module, part, None)
        if found is None:
            found = importlib.import_module(f"fastcnn.{'.'.join(parts[: i + 1])}")
        module = found
    return module


def live(name: str) -> dict[str, object]:
    """Return the arguments that fastcnn has under a name with their defaults; **options of layers are left out."""
    target = resolve(name)
    if not inspect.isclass(target) and not inspect.isroutine(target):
        target = type(target).__call__  # an architecture
    parameters = list(inspect.signature(target).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        parameter.name: NO_VALUE if parameter.default is parameter.empty else parameter.default
        for parameter in parameters
        if parameter.kind not in kinds
    }


def compare() -> tuple[int, int, list[Difference]]:
    """Return how many names and how many arguments were compared, and the differences."""
    arguments = 0
    differences: list[Difference] = []
    for name, text in KERAS.items():
        wanted, found = expected(text), live(name)
        arguments += len(wanted)
        options = inspect.Parameter.VAR_KEYWORD in _kinds(name)
        for argument, default in wanted.items():
            if argument == "name" and argument not in found and options:
                continue  # every layer takes a name
            if argument not in found or found[argument] != default or type(found[argument]) is not type(default):
                there = found.get(argument, "nothing")
                differences.append(_difference(name, argument, default, there))
        more = sorted(found.keys() - wanted.keys() - {"name"})
        differences += [_difference(name, argument, "nothing", found[argument]) for argument in more]
        common = [argument for argument in found if argument in wanted]
        if common != [argument for argument in wanted if argument in found]:
            differences.append(_difference(name, "order", list(wanted), list(found)))
    for name, attributes in ATTRIBUTES.items():
        cls = resolve(name)
        arguments += len(attributes)
        missing = [attribute for attribute in attributes if not _has(cls, attribute)]
        differences += [_difference(name, attribute, "an attribute", "nothing") for attribute in missing]
    return len(KERAS) + len(ATTRIBUTES), arguments, differences


def _has(cls: type, attribute: str) -> bool:
    """Return whether objects of a class have an attribute: the class does, declares it or assigns it."""
    for base in cls.__mro__[:-1]:
        if attribute in vars(base) or attribute in vars(base).get("__annotations__", {}):
            return True
        if f"self.{attribute}" in inspect.getsource(base):
            return True
    return False


def _kinds(name: str) -> set[Any]:
    target = resolve(name)
    return {parameter.kind for parameter in inspect.signature(target).parameters.values()}


def _difference(name: str, argument: str, keras: object, fastcnn: object) -> Difference:
    return Difference(name, argument, keras, fastcnn, EXPLAINED.get((name, argument), ""))


def main() -> int:
    """Print the comparison; return 1 if a difference is not explained."""
    names, arguments, differences = compare()
    for difference in differences:
        print(difference)
    open_ = [difference for difference in differences if not difference.why]
    print(
        f"{names} names, {arguments} arguments and attributes compared with Keras 3.15; {len(differences)} differ, "
        f"{len(open_)} unexplained"
    )
    return bool(open_)


if __name__ == "__main__":
    sys.exit(main())
