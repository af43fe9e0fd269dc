"""Updates as they come: by dpkg, dnf, and offline."""
