"""The commands of orbctl, one module each; they import nothing heavy before they run."""
