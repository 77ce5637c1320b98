// The cloth: the tile as a background that never goes blank, zoom, dragging, and the borders of units and tile.

const ZOOM_MIN_PX = 96;
const ZOOM_MAX_PX = 1100;
const PAN_STEP_PX = 40;
const USUAL_DPI = 300;
const CM_PER_INCH = 2.54;

export class Stage {
  #cloth = document.getElementById("cloth");
  #layers = [...this.#cloth.querySelectorAll(".cloth-layer")];
  #lattice = document.getElementById("lattice");
  #zoom = document.getElementById("zoom");
  #front = 0;
  #offset = { x: 0, y: 0 };
  #repeat = null;
  #sizePx = 4096;
  #dpi = USUAL_DPI;
  #onZoom;

  /** `onZoom` is called with the tile's width in device pixels when it may need a sharper preview. */
  constructor({ onZoom }) {
    this.#onZoom = onZoom;
    this.#zoom.addEventListener("input", () => this.#lay());
    this.#cloth.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(-Math.sign(event.deltaY) * 3);
    }, { passive: false });
    this.#cloth.addEventListener("keydown", (event) => this.#panByKey(event));
    this.#cloth.addEventListener("pointerdown", (event) => this.#drag(event));
    document.getElementById("lattice-toggle").addEventListener("click", () => this.toggleLattice());
    new ResizeObserver(() => this.#lay()).observe(this.#cloth);
  }

  /** Width of the tile on the screen, CSS pixels: the slider is logarithmic, as zoom feels. */
  get tilePx() {
    return Math.round(ZOOM_MIN_PX * (ZOOM_MAX_PX / ZOOM_MIN_PX) ** (this.#zoom.value / 100));
  }

  /** Lay a decoded tile over the one shown. The old one stays beneath until the new one is in. */
  show(url, repeat, label) {
    this.#repeat = repeat;
    const arriving = this.#layers[1 - this.#front];
    const leaving = this.#layers[this.#front];
    arriving.style.backgroundImage = `url("${url}")`;
    this.#cloth.append(arriving, this.#lattice);
    arriving.classList.add("arriving");
    arriving.addEventListener("animationend", () => arriving.classList.replace("arriving", "shown"), { once: true });
    leaving.classList.replace("arriving", "shown");
    this.#front = 1 - this.#front;
    this.#cloth.setAttribute("aria-label", label);
    this.#lay();
  }

  /** Swap in the same pattern at another resolution: nothing moves and nothing fades. */
  sharpen(url) {
    this.#layers[this.#front].style.backgroundImage = `url("${url}")`;
  }

  /** The size ordered decides what the borders measure in print. */
  measureFor(sizePx, dpi = USUAL_DPI) {
    this.#sizePx = sizePx;
    this.#dpi = dpi;
    this.#lay();
  }

  zoomBy(steps) {
    this.#zoom.value = Number(this.#zoom.value) + steps;
    this.#lay();
  }

  toggleLattice() {
    this.#lattice.toggleAttribute("hidden");
    const isShown = !this.#lattice.hasAttribute("hidden");
    document.getElementById("lattice-toggle").setAttribute("aria-pressed", String(isShown));
  }

  #lay() {
    const tile = this.tilePx;
    const { width, height } = this.#cloth.getBoundingClientRect();
    const x = Math.round((width - tile) / 2 + this.#offset.x);
    const y = Math.round((height - tile) / 2 + this.#offset.y);
    for (const layer of this.#layers) {
      layer.style.backgroundSize = `${tile}px ${tile}px`;
      layer.style.backgroundPosition = `${x}px ${y}px`;
    }
    if (!this.#repeat) return;
    this.#drawLattice(tile, x, y);
    const tileCm = (this.#sizePx / this.#dpi) * CM_PER_INCH;
    const unitCm = tileCm / this.#repeat.units;
    document.getElementById("measure").textContent = `tile ${tileCm.toFixed(1)} cm · unit ${unitCm.toFixed(1)} cm`;
    this.#onZoom(tile * devicePixelRatio);
  }

  #drawLattice(tile, x, y) {
    const pattern = document.getElementById("lattice-pattern");
    for (const [name, value] of Object.entries({ x, y, width: tile, height: tile })) pattern.setAttribute(name, value);
    const units = tracePath(this.#repeat, tile);
    const edge = `M0 0H${tile}M0 0V${tile}M0 ${tile}H${tile}M${tile} 0V${tile}`;
    for (const id of ["lattice-units", "lattice-units-halo"]) document.getElementById(id).setAttribute("d", units);
    for (const id of ["lattice-tile", "lattice-tile-halo"]) document.getElementById(id).setAttribute("d", edge);
  }

  #drag(event) {
    if (event.pointerType === "touch") return; // a finger scrolls the page
    const from = { x: event.clientX - this.#offset.x, y: event.clientY - this.#offset.y };
    const controller = new AbortController();
    const { signal } = controller;
    this.#cloth.setPointerCapture(event.pointerId);
    this.#cloth.addEventListener("pointermove", (move) => {
      this.#offset = { x: move.clientX - from.x, y: move.clientY - from.y };
      this.#lay();
    }, { signal });
    for (const end of ["pointerup", "pointercancel"]) this.#cloth.addEventListener(end, () => controller.abort(), { signal });
  }

  #panByKey(event) {
    const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#offset.x += step[0] * PAN_STEP_PX;
    this.#offset.y += step[1] * PAN_STEP_PX;
    this.#lay();
  }
}

/** SVG path of every unit border in one tile; shifted columns (or rows) break where the lattice breaks. */
function tracePath(repeat, tile) {
  const { units } = repeat;
  const unit = tile / units;
  const [over, under] = (repeat.drop || "0/1").split("/").map(Number);
  const shift = over / (under || 1);
  const isRows = repeat.axis === "rows";
  let path = "";
  for (let line = 0; line < units; line += 1) {
    path += isRows ? `M0 ${line * unit}H${tile}` : `M${line * unit} 0V${tile}`;
    for (let cell = 0; cell < units; cell += 1) {
      const at = ((cell + line * shift) % units) * unit;
      path += isRows ? `M${at} ${line * unit}v${unit}` : `M${line * unit} ${at}h${unit}`;
    }
  }
  return path;
}
