"""Tables, figures and the page that show what a reproduction found, from its rows and analyses."""
