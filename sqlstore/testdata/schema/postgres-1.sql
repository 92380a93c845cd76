--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: byok_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.byok_events (
    id text NOT NULL COLLATE pg_catalog."C",
    tenant text NOT NULL COLLATE pg_catalog."C",
    "time" bigint NOT NULL,
    op text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL
);


--
-- Name: byok_items; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.byok_items (
    part text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    revision bigint NOT NULL,
    value bytea NOT NULL,
    CONSTRAINT byok_items_revision_check CHECK ((revision > 0)),
    CONSTRAINT byok_items_value_check CHECK ((octet_length(value) > 0))
);


--
-- Name: byok_schema; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.byok_schema (
    version integer NOT NULL,
    migrated_at text NOT NULL
);


--
-- Data for Name: byok_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.byok_events VALUES ('e1', 't', 1795694400123456789, 'seal', '{"id":"e1","time":"2026-11-26T12:00:00.123456789Z","op":"seal","outcome":"success","reason":"why\n''","scope":{"tenant":"t"}}');
INSERT INTO public.byok_events VALUES ('e2', 't', 1795694400123456790, 'revoke', '{"id":"e2","time":"2026-11-26T12:00:00.12345679Z","op":"revoke","outcome":"success","scope":{"tenant":"t"}}');


--
-- Data for Name: byok_items; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.byok_items VALUES ('p', 'B', 1, '\x79');
INSERT INTO public.byok_items VALUES ('p', 'a', 1, '\x78');
INSERT INTO public.byok_items VALUES ('part!''%_\', '~', 2, '\x00ff76616c7565');


--
-- Data for Name: byok_schema; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.byok_schema VALUES (1, '2026-11-26T15:26:57Z');


--
-- Name: byok_events byok_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.byok_events
    ADD CONSTRAINT byok_events_pkey PRIMARY KEY (id);


--
-- Name: byok_items byok_items_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.byok_items
    ADD CONSTRAINT byok_items_pkey PRIMARY KEY (part, id);


--
-- Name: byok_schema byok_schema_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.byok_schema
    ADD CONSTRAINT byok_schema_pkey PRIMARY KEY (version);


--
-- Name: byok_events_op; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX byok_events_op ON public.byok_events USING btree (tenant, op, "time", id);


--
-- Name: byok_events_tenant; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX byok_events_tenant ON public.byok_events USING btree (tenant, "time", id);


--
-- PostgreSQL database dump complete
--


