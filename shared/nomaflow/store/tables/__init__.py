"""The tables of the schema `nomaflow`, as SQLModel declares them.

Migrations create them (with the CHECKs and partial indexes that SQLModel cannot say) and a test
holds both equal. Rows are read and written by the modules beside this folder.
"""
