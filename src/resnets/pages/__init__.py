"""Pages and pictures: self-contained HTML with SVG charts, and a PNG of predicted images."""
