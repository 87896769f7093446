"""The plugin's dock widget. napari and magicgui are imported here alone, when napari asks for it."""

from __future__ import annotations

from typing import Any

from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.likelihoods.tasks import TASKS
from ddfm.napari_plugin.layers import Progress, fused_layers
from ddfm.registration.models import REGISTRATIONS

NOT_REGISTERED = "they are aligned"


def fuse_layers_widget(napari_viewer: Any) -> Any:
    """Return a magicgui container: layers, task, steps and registration, with progress and Cancel.

    Raises InputError without napari.
    """
    try:
        from magicgui import widgets
        from napari.layers import Image as ImageLayer
        from napari.qt.threading import create_worker
    except ImportError as missing:
        raise InputError("the plugin needs napari: pip install 'ddfm[napari]'") from missing

    layers = widgets.Select(
        label="layers",
        choices=lambda _: [layer for layer in napari_viewer.layers if isinstance(layer, ImageLayer)],
    )
    task = widgets.ComboBox(label="task", choices=["auto", *TASKS], value="auto")
    steps = widgets.SpinBox(label="steps", value=5, min=0, max=1000)
    register = widgets.ComboBox(label="register", choices=[NOT_REGISTERED, *REGISTRATIONS])
    bar = widgets.ProgressBar(label="progress", value=0, max=1)
    fuse, cancel = widgets.PushButton(text="Fuse"), widgets.PushButton(text="Cancel", enabled=False)
    panel = widgets.Container(widgets=[layers, task, steps, register, bar, fuse, cancel])
    running: list[Any] = []

    def start() -> None:
        chosen = list(layers.value)
        model = None if register.value == NOT_REGISTERED else register.value
        options = Options(task=task.value, steps=steps.value, register=model)

        def add(fused: Any) -> None:
            colour = fused.shape[-1] == 3 and any(layer.rgb for layer in chosen)
            first = next((layer for layer in chosen if layer.rgb), chosen[0])
            place = (
                {"scale": first.scale, "translate": first.translate}
                if first.data.shape == fused.shape
                else {}
            )
            napari_viewer.add_image(fused, name="fused", rgb=colour, **place)

        def show(progress: Progress) -> None:
            bar.max, bar.value = progress.total, progress.done

        def finish() -> None:
            running.clear()
            fuse.enabled, cancel.enabled = True, False

        worker = create_worker(fused_layers, chosen, options, _start_thread=False)
        worker.yielded.connect(show)
        worker.returned.connect(add)
        worker.finished.connect(finish)
        running.append(worker)
        fuse.enabled, cancel.enabled, bar.value = False, True, 0
        worker.start()

    def stop() -> None:
        for worker in running:
            worker.quit()

    fuse.changed.connect(start)
    cancel.changed.connect(stop)
    for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
        event.connect(lambda _: layers.reset_choices())
    layers.reset_choices()
    return panel
