// Four things that a file cannot do without scripts: plots are drawn when they come into sight, clips play while they
// are in sight, long tables can be searched, and the page can be turned light or dark. Nothing is ever loaded; what
// goes wrong is said in its place.
"use strict";
(() => {
  const root = document.documentElement;
  const darkPage = matchMedia("(prefers-color-scheme: dark)");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const touch = matchMedia("(pointer: coarse)").matches;
  const isDark = () => (root.dataset.look ? root.dataset.look === "dark" : darkPage.matches);

  // ---- plots ----
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const look = () => {
    const ink = colour("ink"), soft = colour("soft"), line = colour("line"), card = colour("card");
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, tickfont: { color: soft },
      title: { font: { color: soft, size: 12 } } };
    return { layout: { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink } } } };
  };
  let library = null;
  const unpacked = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    if (!window.Plotly) throw new Error("the plotting library did not start");
  };
  const drawn = new Set();
  const draw = async (canvas) => {
    try {
      await (library ??= unpacked());
      const told = JSON.parse(canvas.nextElementSibling.textContent);
      const layout = { ...told.layout, template: look(), dragmode: touch ? false : "zoom" };
      canvas.replaceChildren();
      await window.Plotly.newPlot(canvas, told.data, layout, { displayModeBar: false, responsive: true });
      drawn.add(canvas);
      canvas.parentElement.querySelectorAll(".legend button").forEach((button, trace) => {
        button.addEventListener("click", () => {
          const shown = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", String(shown));
          window.Plotly.restyle(canvas, { visible: shown }, [trace]);
        });
      });
    } catch (error) {
      canvas.textContent = `This plot could not be drawn by this browser (${error}). The tables have the figures.`;
    }
  };
  const redraw = () => drawn.forEach((canvas) => window.Plotly.relayout(canvas, { template: look() }));
  const inSight = (items, margin, come, go) => {
    const watcher = new IntersectionObserver((seen) => seen.forEach((one) => {
      if (one.isIntersecting) come(one.target, watcher);
      else if (go) go(one.target);
    }), { rootMargin: margin });
    items.forEach((item) => watcher.observe(item));
  };
  inSight(document.querySelectorAll(".canvas"), "600px", (canvas, watcher) => { watcher.unobserve(canvas); draw(canvas); });
  // On paper, all plots are in sight.
  addEventListener("beforeprint", () => document.querySelectorAll(".canvas").forEach((c) => drawn.has(c) || draw(c)));

  // ---- clips ----
  // Some browsers play a video of a data: address only from a blob: made of it.
  const asBlob = (video) => {
    const [head, body] = video.src.split(",", 2);
    if (!head.startsWith("data:")) return;
    const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  };
  const small = (item) => {
    const width = item.videoWidth || item.naturalWidth;
    if (width && width <= 96) item.classList.add("tiny");  // enlarged, its pixels are what one wants to see
  };
  const start = (video) => video.play().catch(() => {});  // a browser may not want to: then it stays a picture
  document.querySelectorAll(".films-group").forEach((group) => {
    const videos = [...group.querySelectorAll("video")];
    let playing = !calm;
    const seen = new Set();
    const bar = group.querySelector(".controls");
    const button = group.querySelector(".play");
    const tell = () => { if (button) button.textContent = playing ? "Pause" : "Play"; };
    videos.forEach((video) => {
      video.addEventListener("loadedmetadata", () => small(video));
      const toggle = () => (video.paused ? start(video) : video.pause());
      video.addEventListener("click", toggle);
      video.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
      });
    });
    inSight(videos, "120px", (video) => {
      asBlob(video);
      seen.add(video);
      if (playing) start(video);
    }, (video) => { seen.delete(video); video.pause(); });
    if (!bar || !videos.length) return;
    bar.hidden = false;
    tell();
    button.addEventListener("click", () => {
      playing = !playing;
      seen.forEach((video) => (playing ? start(video) : video.pause()));
      tell();
    });
    group.querySelector(".again").addEventListener("click", () => {
      playing = true;
      seen.forEach((video) => { video.currentTime = 0; start(video); });
      tell();
    });
  });
  document.querySelectorAll("img").forEach((img) => (img.complete ? small(img) : img.addEventListener("load", () => small(img))));

  // ---- tables that can be searched ----
  document.querySelectorAll(".search").forEach((bar) => {
    const rows = [...bar.nextElementSibling.querySelectorAll("tbody tr")].map((row) => [row, row.innerText.toLowerCase()]);
    const field = bar.querySelector("input"), told = bar.querySelector("output");
    bar.hidden = false;
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = rows.filter(([row, text]) => !(row.hidden = !wanted.every((word) => text.includes(word))));
      told.textContent = wanted.length ? `${found.length} of ${rows.length} rows` : "";
    });
  });

  // ---- the contents and the look ----
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const sections = [...document.querySelectorAll("main section")];
  const mark = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < 120);
    const here = (passed.at(-1) ?? sections[0])?.id;
    links.forEach((a, id) => (id === here ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current")));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
  const turn = document.getElementById("turn");
  turn.hidden = false;
  turn.addEventListener("click", () => { root.dataset.look = isDark() ? "light" : "dark"; redraw(); });
  darkPage.addEventListener("change", redraw);
})();
