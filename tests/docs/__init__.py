"""Run the code blocks of README.md, CONTRIBUTING.md and docs/, page by page.

`project/` is the small project in which they run: `mysite` with the app `shop`.
"""
