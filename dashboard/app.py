"""The dashboard's entry for `streamlit run`: which pages there are, nothing else."""

import streamlit as st

from dashboard.pages import experiment

st.set_page_config(page_title="Rialto", page_icon="🌉", layout="wide", initial_sidebar_state="collapsed")
st.navigation([st.Page(experiment.render, title="Experiment", default=True)], position="hidden").run()
