/**
 * Builds elements of HTML and SVG.
 *
 * Data becomes text nodes and attributes, never markup: nothing in the console assigns innerHTML.
 */

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on` maps names of events to listeners; false, null and undefined are left out. */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element; the parameters are those of `element`. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** A link to a page of the console; without `href` the text alone. */
export function link(href, text, attributes = {}) {
  return href ? element("a", { href, ...attributes }, text) : element("span", attributes, text);
}

/** Replaces the children of an element. */
export function replace(parent, ...children) {
  parent.replaceChildren(...flat(children));
  return parent;
}

function fill(target, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) target.addEventListener(event, listener);
    } else if (name === "style") {
      // The Content-Security-Policy forbids style attributes, but not the object model.
      for (const [property, text] of Object.entries(value)) target.style.setProperty(property, text);
    } else if (name === "value") {
      target.value = value;
    } else {
      target.setAttribute(name, value === true ? "" : String(value));
    }
  }
  target.append(...flat(children));
  return target;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
