"""The files of a project folder, each read on its own: nothing is raised, problems have lines."""
